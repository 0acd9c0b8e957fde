"""The statements about what stores are, and which database reaps them: one round trip each."""

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Float,
    String,
    Uuid,
    any_,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from database import RAISE_DURABILITY, Statement
from files.tables import StoreLease, StorePlace
from models import FileState, StoredFile

_here = (StoredFile.storage == bindparam("storage")) & (StoredFile.bucket == bindparam("bucket"))
_this_place = (StorePlace.storage == bindparam("storage")) & (
    StorePlace.bucket == bindparam("bucket")
)
_this_store = StoreLease.store_id == bindparam("store_id", type_=Uuid)
_age_seconds: ColumnElement[float] = literal_column(
    "extract(epoch FROM now() - renewed_at)::float"
).label("age_seconds")

# A dump restored elsewhere has another oid or another system; a copy byte by byte has neither.
READ_DATABASE = Statement(
    text(
        "SELECT installation.id,"
        " (SELECT oid FROM pg_database WHERE datname = current_database())::bigint AS oid,"
        " has_function_privilege(to_regprocedure('pg_control_system()'), 'EXECUTE') AS may_ask"
        " FROM installation"
    )
)
READ_SYSTEM = Statement(text("SELECT system_identifier FROM pg_control_system()"))
READ_NOW = Statement(text("SELECT now() AS now"))

# Each name and bucket that rows have, found by as many steps in the index.
LIST_PLACES = Statement(
    text(
        "WITH RECURSIVE places AS ("
        "(SELECT storage, bucket FROM stored_files ORDER BY storage, bucket LIMIT 1)"
        " UNION ALL SELECT later.storage, later.bucket FROM places CROSS JOIN LATERAL"
        " (SELECT storage, bucket FROM stored_files"
        " WHERE (storage, bucket) > (places.storage, places.bucket)"
        " ORDER BY storage, bucket LIMIT 1) later"
        ") SELECT storage, bucket FROM places"
    )
)
HAS_ROWS = Statement(select(exists().where(_here).label("has_rows")))
SAMPLE_LIVE = Statement(
    select(StoredFile.key).where(_here, StoredFile.state == FileState.LIVE).limit(10)
)

READ_PLACE = Statement(select(StorePlace.store_id, StorePlace.seen_at).where(_this_place))
ADD_PLACE = Statement(
    insert(StorePlace)
    .values(
        storage=bindparam("storage"),
        bucket=bindparam("bucket"),
        store_id=bindparam("store_id", type_=Uuid),
    )
    .on_conflict_do_nothing()
    .returning(StorePlace.store_id, literal_column(RAISE_DURABILITY))
)
# What the marker says is so, if we were only about to make one.
SEE_PLACE = Statement(
    update(StorePlace)
    .where(_this_place, StorePlace.seen_at.is_(None))
    .values(store_id=bindparam("seen_id", type_=Uuid), seen_at=func.now())
    .returning(StorePlace.store_id, literal_column(RAISE_DURABILITY))
)
_adopted = insert(StorePlace).values(
    storage=bindparam("storage"),
    bucket=bindparam("bucket"),
    store_id=bindparam("store_id", type_=Uuid),
    seen_at=func.now(),
)
ADOPT_PLACE = Statement(
    _adopted.on_conflict_do_update(
        constraint="store_places_pkey",
        set_={"store_id": _adopted.excluded.store_id, "seen_at": func.now()},
    ).returning(StorePlace.store_id, literal_column(RAISE_DURABILITY))
)

READ_LEASE = Statement(select(StoreLease.tokens, _age_seconds).where(_this_store))
_lease = insert(StoreLease).values(
    store_id=bindparam("store_id", type_=Uuid),
    tokens=bindparam("tokens", type_=ARRAY(String)),
    renewed_at=func.now(),
)
ADD_LEASE = Statement(
    _lease.on_conflict_do_nothing().returning(StoreLease.store_id, literal_column(RAISE_DURABILITY))
)
ADOPT_LEASE = Statement(
    _lease.on_conflict_do_update(
        index_elements=[StoreLease.store_id],
        set_={"tokens": _lease.excluded.tokens, "renewed_at": func.now()},
    ).returning(StoreLease.store_id, literal_column(RAISE_DURABILITY))
)
# One process wins. The token that the marker has stays known, whatever becomes of the next write.
RENEW = Statement(
    update(StoreLease)
    .where(
        _this_store,
        bindparam("marker_token", type_=String) == any_(StoreLease.tokens),
        StoreLease.renewed_at
        <= func.now()
        - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("patience_seconds", type_=Float)),
    )
    .values(
        renewed_at=func.now(),
        tokens=func.array_append(
            func.array_prepend(
                bindparam("marker_token", type_=String),
                # So many that a write which comes late, after a process was stopped for half an
                # hour, is still one of ours.
                literal_column("tokens[greatest(1, cardinality(tokens) - 27):]"),
            ),
            bindparam("token", type_=String),
        ),
    )
    .returning(StoreLease.tokens, literal_column(RAISE_DURABILITY))
)
