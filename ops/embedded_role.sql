-- Gives what an earlier version made as the superuser to the role of the service, which is made.
-- A sequence goes with its column's table, and an array with its type.
DO $$
DECLARE
    superuser oid := 'postgres'::regrole;
    schemas oid[] := ARRAY(
        SELECT oid FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema');
    thing text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'darkroom') THEN
        CREATE ROLE darkroom;
    END IF;
    ALTER ROLE darkroom LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
    ALTER DATABASE darkroom OWNER TO darkroom;
    FOR thing IN
        SELECT format('SCHEMA %I', nspname) FROM pg_namespace
        WHERE oid = ANY (schemas) AND nspowner = superuser
        UNION ALL
        SELECT format(
            '%s %s',
            CASE relkind
                WHEN 'v' THEN 'VIEW'
                WHEN 'm' THEN 'MATERIALIZED VIEW'
                WHEN 'S' THEN 'SEQUENCE'
                ELSE 'TABLE'
            END,
            oid::regclass)
        FROM pg_class
        WHERE relnamespace = ANY (schemas) AND relowner = superuser
            AND relkind IN ('r', 'p', 'v', 'm', 'S')
            AND NOT EXISTS (
                SELECT FROM pg_depend
                WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                    AND (deptype = 'e' OR relkind = 'S' AND deptype IN ('a', 'i')))
        UNION ALL
        SELECT format('TYPE %s', oid::regtype) FROM pg_type
        WHERE typnamespace = ANY (schemas) AND typowner = superuser AND typtype IN ('e', 'd')
            AND NOT EXISTS (
                SELECT FROM pg_depend
                WHERE classid = 'pg_type'::regclass AND objid = pg_type.oid AND deptype = 'e')
        UNION ALL
        SELECT format('ROUTINE %s', oid::regprocedure) FROM pg_proc
        WHERE pronamespace = ANY (schemas) AND proowner = superuser
            AND NOT EXISTS (
                SELECT FROM pg_depend
                WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
    LOOP
        EXECUTE format('ALTER %s OWNER TO darkroom', thing);
    END LOOP;
END $$;
