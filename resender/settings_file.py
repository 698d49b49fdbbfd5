"""Reading `settings.py`: a Python file of the user's, run once at the start.

What its names mean is `config.py`. No state.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

from resender.errors import ConfigError
from resender.places import IS_INSTALLED, home, is_foreign


def read_settings_file(path: Path | None = None) -> dict[str, Any]:
    """Run `settings.py`; return its upper-case names. Raises: ConfigError if it cannot or must not be run."""
    path = path or home() / "settings.py"
    if not path.exists():
        return {}
    if IS_INSTALLED and is_foreign(path):
        raise ConfigError(f"{path} belongs to another user and is not run: take it over, or start elsewhere.")
    if not os.access(path, os.R_OK):
        raise ConfigError(
            f"{path} may not be read by this user: give it the right to (chmod o+r), or own it."
        )
    try:
        names = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigError(f"{path.name}{where}: {type(error).__name__}: {error}") from None
    return {name: value for name, value in names.items() if name.isupper() and not name.startswith("_")}
