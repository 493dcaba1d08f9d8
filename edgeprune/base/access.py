"""What a user may do with a path, by owner, group and mode of it and of every folder on the way (path_resolution(7))."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

READ, WRITE, PASS = 4, 2, 1  # of three bits of a mode (inode(7)); PASS: through a folder
MOST_LINKS = 40  # that Linux follows in a path
ACCESS_LIST = "system.posix_acl_access"  # the attribute that has it (acl(5))


class Somebody(NamedTuple):
    """A user that is not root, and has no rights but those of files.

    Attributes:
        name: as messages say it.
        uid: None: a user that is made up later, who owns nothing yet.
        gids: of all groups that the user is in.
    """

    name: str
    uid: int | None = None
    gids: frozenset[int] = frozenset()

    def stopped_at(self, path: Path, *, write: bool = False) -> Path | None:
        """The first folder on the way to a path that the user may not pass, or where the path leads to, if that is what the
        user may not read (of a folder: pass); None where all is well, or where it can't be known: nothing is there, or we may
        not look ourselves.

        Args:
            write: whether it is a folder to make files in.
        """
        try:
            *folders, end = _way(path)
            for folder in folders:
                if not self._may(folder, PASS):
                    return folder
            needed = WRITE | PASS if write else PASS if end.is_dir() else READ
            return None if self._may(end, needed) else end
        except OSError:
            return None

    def _may(self, path: Path, needed: int) -> bool:
        """The owner's bits count for the owner alone, even where others may do more."""
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.gids else 0
        return status.st_mode >> shift & needed == needed or _has_access_list(path)


def _way(path: Path) -> Iterator[Path]:
    """Every folder that the kernel passes, links followed one by one, then what the path leads to. Raises OSError."""
    left, at, links = list(reversed(Path(os.path.abspath(path)).parts)), Path("/"), 0
    while left:
        name = left.pop()
        ahead = Path("/") if name == "/" else at.parent if name == ".." else at / name
        if stat.S_ISLNK(ahead.lstat().st_mode):
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            left += reversed(Path(os.readlink(ahead)).parts)
            continue
        at = ahead
        if left:
            yield at
    yield at


def _has_access_list(path: Path) -> bool:
    """Whether single users have rights of their own to it, which the mode does not say."""
    try:
        return ACCESS_LIST in os.listxattr(path)
    except (AttributeError, OSError):  # not Linux, or a file system without them
        return False
