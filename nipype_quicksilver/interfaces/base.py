"""Shared by the nodes: traits of options, the command, ITK's threads, hashes, names of outputs."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from hashlib import md5
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterface,
    BaseInterfaceInputSpec,
    BaseTraitedSpec,
    CommandLine,
    CommandLineInputSpec,
    File,
    traits,
)
from nipype.interfaces.base.traits_extension import BasePath
from nipype.utils.filemanip import split_filename

from nipype_quicksilver import __version__
from nipype_quicksilver.declarations import Kind, Option
from nipype_quicksilver.execution import gpus
from nipype_quicksilver.execution.processes import PARENT
from nipype_quicksilver.options import OPTIONS, SCAN_FILES
from nipype_quicksilver.spatial.files import check_apart
from nipype_quicksilver.steps import SEED

_PROGRAM = "quicksilver"
OPTIONS_AND_FILES = {**OPTIONS, **SCAN_FILES}


def trait_of(option: Option, **metadata: Any) -> Any:
    """Return the trait of a declared option.

    Parameters
    ----------
    option : Option
        Declaration.
    **metadata
        Further metadata of the trait, such as `xor`.

    Returns
    -------
    trait
        With the default, allowed values, help and command-line argument of the option.
    """
    forms = {Kind.FLAG: option.flag, Kind.COUNT: f"{option.flag} %d"}
    metadata = {
        "argstr": forms.get(option.kind, f"{option.flag} %s"),
        "desc": option.help,
        **_requirement(option),
        **metadata,
    }
    if option.kind is Kind.NAME and option.default is None:
        return traits.Enum(*option.choices, **metadata)
    if option.kind is Kind.NAME:
        return traits.Enum(option.default, option.choices, usedefault=True, **metadata)
    if option.kind is Kind.NAME_OR_FILE:
        return traits.Either(traits.Enum(*option.choices), File(exists=True), **metadata)
    if option.kind is Kind.FILE:
        return File(exists=True, **metadata)
    if option.kind is Kind.COUNTS:
        return traits.List(traits.Range(low=option.least), minlen=1, sep="x", **metadata)
    if option.kind is Kind.FLAG:
        return traits.Bool(**metadata)
    if option.default is None:
        return traits.Range(low=option.least, **metadata)
    return traits.Range(low=option.least, value=option.default, usedefault=True, **metadata)


def _requirement(option: Option) -> dict[str, list[str]]:
    """Return the metadata of an option that needs another one.

    Nipype would refuse a flag that is False, too; there the command checks it.
    """
    if not option.needs or option.kind is Kind.FLAG:
        return {}
    return {"requires": [OPTIONS_AND_FILES[option.needs].trait]}


def spec_of(name: str, bases: tuple[type, ...], options: Iterable[Option]) -> Any:
    """Return an input specification with the traits of options.

    Parameters
    ----------
    name : str
        Name of the class.
    bases : tuple of type
        Its base classes.
    options : iterable of Option
        Declarations.

    Returns
    -------
    type
        The class.
    """
    members: dict[str, Any] = {option.trait: trait_of(option) for option in options}
    members["__doc__"] = "Traits of declared options."
    members["__module__"] = __name__
    return type(bases[0])(name, bases, members)


class CommandInputSpec(CommandLineInputSpec):
    """Options that every sub-command of `quicksilver` has."""

    num_threads = traits.Range(
        low=1,
        value=1,
        usedefault=True,
        nohash=True,
        argstr="--num-threads %d",
        desc="number of threads; a Node with n_procs sets it",
    )
    use_gpu = traits.Bool(
        False,
        usedefault=True,
        nohash=True,
        argstr="--device %s",
        desc="compute on a GPU, one of CUDA_VISIBLE_DEVICES (default: on the CPU); MultiProc needs "
        "n_gpu_procs in its plugin_args where nvidia-smi finds no GPU",
    )


#: Inputs of the nodes whose result may depend on random numbers.
SeededInputSpec: Any = spec_of("SeededInputSpec", (CommandInputSpec,), (SEED,))


class QuicksilverCommand(CommandLine):
    """A sub-command of `quicksilver`, run in a process of its own.

    `_cmd` is the name of the sub-command. It runs in the same Python environment as the node, even
    if the scripts of that environment are not on the PATH, so that both have the same version.
    """

    input_spec = CommandInputSpec
    _version = __version__

    @property
    def cmd(self) -> str:
        """Program and sub-command."""
        return f"{_program()} {self._cmd}"

    def _format_arg(self, name: str, trait_spec: Any, value: Any) -> Any:
        if name == "use_gpu":
            return trait_spec.argstr % ("cuda" if value else "cpu")
        if isinstance(value, list):
            value = [shlex.quote(str(item)) for item in value]  # Nipype quotes single files only
        elif isinstance(value, str) and name != "args" and not trait_spec.is_trait_type(BasePath):
            value = shlex.quote(value)
        return super()._format_arg(name, trait_spec, value)

    def _run_interface(self, runtime: Any) -> Any:
        # Otherwise it would continue after its workflow is killed, and write into the same folder
        # as the next run.
        runtime.environ[PARENT] = str(os.getpid())
        reserved: contextlib.AbstractContextManager[dict[str, str]] = contextlib.nullcontext({})
        if self.inputs.use_gpu:
            reserved = gpus.reserved()
        with reserved as environment:
            runtime.environ.update(environment)
            runtime = super()._run_interface(runtime)
        if runtime.returncode != 0:
            # Nipype would only report missing outputs; the message of the command has the reason.
            self.raise_exception(runtime)
        return runtime

    def raise_exception(self, runtime: Any) -> None:
        """Raise Nipype's error, led by the line in which the command says why it failed."""
        start = f"{_PROGRAM}: error: "
        why = [line for line in runtime.stderr.splitlines() if line.startswith(start)][-1:]
        try:
            super().raise_exception(runtime)
        except RuntimeError as error:
            raise RuntimeError("\n".join([*why, str(error)])) from None


def _program() -> str:
    """Return the shortest command that starts `quicksilver` in this Python environment."""
    script = Path(sys.executable).parent / _PROGRAM
    on_path = shutil.which(_PROGRAM)
    if on_path is not None and Path(on_path) == script:
        return _PROGRAM
    return f"{shlex.quote(sys.executable)} -m nipype_quicksilver"


class LightInputSpec(BaseInterfaceInputSpec):
    """Inputs of the nodes that use SimpleITK in the process that runs them."""

    num_threads = traits.Range(
        low=1,
        value=1,
        usedefault=True,
        nohash=True,
        desc="number of threads of ITK; a Node with n_procs sets it",
    )


class LightInterface(BaseInterface):
    """A node that runs in the worker process of its workflow."""

    _version = __version__

    def _pre_run_hook(self, runtime: Any) -> Any:
        # Nipype's nodes have a folder of their own; an interface that is run alone has not.
        files: dict[bool, list[str | os.PathLike[str]]] = {True: [], False: []}
        for name, value in self.inputs.get_traitsfree().items():
            is_output = self.inputs.trait(name).hash_files is False
            values = value if isinstance(value, list | tuple) else [value]
            files[is_output] += [item for item in values if isinstance(item, str | os.PathLike)]
        check_apart(*([Path(runtime.cwd, file) for file in files[out]] for out in (True, False)))
        return runtime


def hash_with_files(
    inputs: BaseTraitedSpec, listed: Any, files: Mapping[str, str], hash_method: str | None
) -> Any:
    """Add files that are not traits to the hash of inputs.

    Parameters
    ----------
    inputs : BaseTraitedSpec
        The inputs.
    listed : tuple
        Result of their `get_hashval`: a list of values, and its digest.
    files : mapping
        Paths by name.
    hash_method : str or None
        As for `get_hashval`.

    Returns
    -------
    tuple
        As `listed`, with the files.
    """
    values, digest = listed
    for name, path in files.items():
        value = inputs._get_sorteddict(path, hash_method=hash_method)
        values.append((name, (path, value)))
        digest = md5(f"{digest}{name}{value}".encode()).hexdigest()
    return values, digest


@contextlib.contextmanager
def itk_threads(number: int) -> Iterator[None]:
    """Set the number of ITK's threads within the block.

    Parameters
    ----------
    number : int
        Number of threads, at least 1.

    Yields
    ------
    None
    """
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def output_name(in_file: str, postfix: str, suffix: str = ".nii.gz") -> str:
    """Return the path of an output in the working folder, named after an input.

    Parameters
    ----------
    in_file : str
        Any path; its folder and suffix are dropped.
    postfix : str
        Ending of the name, different for each output of a node.
    suffix : str
        Suffix of the output.

    Returns
    -------
    str
        Absolute path.

    Examples
    --------
    >>> os.path.basename(output_name("/data/t1w.mgz", "_conformed"))
    't1w_conformed.nii.gz'
    """
    return os.path.abspath(split_filename(in_file)[1] + postfix + suffix)
