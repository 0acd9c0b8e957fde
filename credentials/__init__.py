"""What people choose to be known by and to prove it with: which names and passwords are taken."""

from credentials.names import check_new_name, fold, fold_name, normalize_name
from credentials.passwords import check_new_password

__all__ = ["check_new_name", "check_new_password", "fold", "fold_name", "normalize_name"]
