"""Known models by name, and where they lie: inside the package, or in the one cache folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from seqassay.errors import UsageError

CACHE_VARIABLE = "SEQASSAY_HOME"
BUNDLE_FILE = "bundle.json"
DEFAULT_BUNDLE = "mini"


@dataclass(frozen=True, slots=True)
class KnownEncoder:
    """A published encoder: what it is called here, its repository on the Hugging Face Hub, its dimensions."""

    name: str
    repo_id: str
    encoder_class: Literal["dnabert", "esm2"]
    n_layers: int
    d_model: int
    note: str = ""

    @property
    def n_parameters(self) -> int:
        """Parameters that our forward pass reads (no language-model head)."""
        width, layers = self.d_model, self.n_layers
        if self.encoder_class == "esm2":
            return 33 * width + layers * (12 * width**2 + 13 * width) + 2 * width
        return 4096 * width + 2 * width + layers * (16 * width**2 + 9 * width)

    @property
    def download_bytes(self) -> int:
        """About how much is downloaded: the published files are float32."""
        return 4 * self.n_parameters


ENCODERS: dict[str, KnownEncoder] = {
    encoder.name: encoder
    for encoder in (
        KnownEncoder("esm2_t6_8M_UR50D", "facebook/esm2_t6_8M_UR50D", "esm2", 6, 320),
        KnownEncoder("esm2_t12_35M_UR50D", "facebook/esm2_t12_35M_UR50D", "esm2", 12, 480),
        KnownEncoder("esm2_t30_150M_UR50D", "facebook/esm2_t30_150M_UR50D", "esm2", 30, 640),
        KnownEncoder("esm2_t33_650M_UR50D", "facebook/esm2_t33_650M_UR50D", "esm2", 33, 1280),
        KnownEncoder(
            "esm2_t36_3B_UR50D", "facebook/esm2_t36_3B_UR50D", "esm2", 36, 2560, "VirNucPro's protein encoder"
        ),
        KnownEncoder("esm2_t48_15B_UR50D", "facebook/esm2_t48_15B_UR50D", "esm2", 48, 5120),
        KnownEncoder(
            "FastESM2_650",
            "Synthyra/FastESM2_650",
            "esm2",
            33,
            1280,
            "ESM-2 650M trained 50,000 steps further: not the ESM-2 reference",
        ),
        KnownEncoder("DNABERT-S", "zhihan1996/DNABERT-S", "dnabert", 12, 768, "VirNucPro's nucleotide encoder"),
    )
}


@dataclass(frozen=True, slots=True)
class KnownBundle:
    """A bundle that can be named before it is installed, and what it is made of."""

    name: str
    nucleotide: str
    protein: str
    chunk_length: int
    head_file: str
    description: str


PUBLISHED_BUNDLES: dict[str, KnownBundle] = {
    f"virnucpro-{length}": KnownBundle(
        name=f"virnucpro-{length}",
        nucleotide="DNABERT-S",
        protein="esm2_t36_3B_UR50D",
        chunk_length=length,
        head_file=f"{length}_model.pth",
        description=f"VirNucPro's published {length}-bp classifier (Li et al. 2025, bbaf224)",
    )
    for length in (300, 500)
}


def cache_folder() -> Path:
    """The one folder outside the output folder that is ever written to: `$SEQASSAY_HOME` or `~/.cache/seqassay`."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "seqassay"


def encoder_folder(name: str) -> Path:
    """Where a known encoder is, or will be, in the cache."""
    return cache_folder() / "encoders" / name


def bundle_folder(name: str) -> Path:
    """Where an imported bundle is, or will be, in the cache."""
    return cache_folder() / "bundles" / name


def embedded_bundle_folder(name: str = DEFAULT_BUNDLE) -> Path:
    """Where a bundle that ships inside the package lies."""
    return Path(str(resources.files("seqassay"))) / "bundles" / name


def named_bundle(name: str) -> Path | None:
    """The folder of the embedded or imported bundle of this name; None where there is none."""
    if name != Path(name).name or name in ("", ".", ".."):
        return None
    folders = (embedded_bundle_folder(name), bundle_folder(name))
    return next((folder for folder in folders if (folder / BUNDLE_FILE).is_file()), None)


def locate_bundle(name_or_path: str) -> Path:
    """The folder of a bundle: an embedded or imported one by its name, any other by its path.

    A name wins over a folder of the same name in the working directory; write `./mini` for that folder.

    Raises:
        UsageError: neither a bundle's name nor the path of a folder; says what there is.
    """
    named = named_bundle(name_or_path)
    if named is not None:
        return named
    path = Path(name_or_path).expanduser()
    if name_or_path and path.exists():
        return path
    if name_or_path in PUBLISHED_BUNDLES:
        raise UsageError(
            f"bundle {name_or_path} is not installed", hint=how_to_install(PUBLISHED_BUNDLES[name_or_path])
        )
    raise UsageError(
        f"no bundle named {name_or_path!r}, and no such folder",
        hint=f"installed: {', '.join(installed_bundles()) or 'none'}; `seqassay models list` shows all",
    )


def locate_encoder(name_or_path: str) -> Path:
    """The folder or file of an encoder: a fetched one by its name, any other by its path.

    Raises:
        UsageError: a known encoder that was not fetched yet, or nothing at that path.
    """
    known = ENCODERS.get(name_or_path)
    if known is not None and encoder_folder(known.name).is_dir():
        return encoder_folder(known.name)
    path = Path(name_or_path).expanduser()
    if name_or_path and path.exists():
        return path
    if known is not None:
        raise UsageError(
            f"encoder {known.name} is not in the cache ({encoder_folder(known.name)})",
            hint=f"fetch it with: seqassay models fetch {known.name}",
        )
    raise UsageError(
        f"no encoder named {name_or_path!r}, and no such folder or file", hint=f"known encoders: {', '.join(ENCODERS)}"
    )


def installed_bundles() -> dict[str, Path]:
    """Bundles that can be used by name, embedded ones first."""
    found: dict[str, Path] = {}
    for parent in (embedded_bundle_folder().parent, bundle_folder("x").parent):
        if parent.is_dir():
            for folder in sorted(parent.iterdir()):
                if not folder.name.startswith(".") and (folder / BUNDLE_FILE).is_file():
                    found.setdefault(folder.name, folder)
    return found


def how_to_install(bundle: KnownBundle) -> str:
    """The commands that build a published bundle; its head comes from the authors' release files."""
    return (
        f"get {bundle.head_file} from the authors' release (github.com/Li-Jing-1997/VirNucPro), then:\n"
        f"  seqassay models fetch {bundle.nucleotide}\n"
        f"  seqassay models fetch {bundle.protein}\n"
        f"  seqassay models import --name {bundle.name} --nucleotide {bundle.nucleotide} --protein {bundle.protein} "
        f"--head {bundle.head_file} --chunk-length {bundle.chunk_length}"
    )
