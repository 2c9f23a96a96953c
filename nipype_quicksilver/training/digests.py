"""Files identified by their SHA-256, as a training records them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nipype_quicksilver.spatial.files import PathLike, sha256_of


@dataclass(frozen=True)
class FileDigest:
    """A file and its SHA-256.

    Attributes
    ----------
    file : str
        Absolute path, or the name alone.
    sha256 : str
    use : str
        Purpose of the file in the training; empty where it is clear.
    """

    file: str
    sha256: str
    use: str = ""

    @classmethod
    def of(cls, path: PathLike, use: str = "") -> FileDigest:
        """Return the digest of a file.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        return cls(str(Path(path).absolute()), sha256_of(path), use)

    def without_folder(self) -> FileDigest:
        """Return the digest with the file's name alone: for cards, which are read elsewhere."""
        return replace(self, file=Path(self.file).name)

    def as_json(self) -> dict[str, str]:
        """Return the digest as run.json and cards hold it."""
        use = {"use": self.use} if self.use else {}
        return {**use, "file": self.file, "sha256": self.sha256}
