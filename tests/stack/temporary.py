"""Temporary directories of a stack; those of processes that were killed are swept up by the next one."""

import os
import re
import shutil
import tempfile
from pathlib import Path


def make_temporary_directory(kind: str) -> Path:
    """
    Make a new directory, after deleting those that dead processes have left.

    :param kind: a word for its name
    :return: the directory, for its owner to delete
    """
    pattern = re.compile(r"imagegen-stack-(\d+)-.*")
    for path in Path(tempfile.gettempdir()).glob("imagegen-stack-*"):
        match = pattern.fullmatch(path.name)
        if match and not _is_alive(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"imagegen-stack-{os.getpid()}-{kind}-"))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
