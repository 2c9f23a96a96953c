"""Print the tables of `docs/options.md` from the declarations of the options."""

from collections.abc import Iterable, Sequence

from nipype_quicksilver.declarations import Kind, Option
from nipype_quicksilver.options import OPTIONS, SCAN_FILES

INTERFACES = ("command", "Python", "node", "workflow", "cohort")
HEADS = (
    "option",
    "`quicksilver register`",
    "`register()`",
    "`QuicksilverRegistration`",
    "`init_quicksilver_wf`",
    "`quicksilver cohort`",
)
#: What a cohort has instead of the files of a pair.
COHORT_FILES = {
    "fixed_mask": "is extracted, or comes with a template",
    "moving_mask": "column `mask` of a table",
    "fixed_lesion_mask": "pairwise: column `lesion_mask` of the other image",
    "moving_lesion_mask": "column `lesion_mask` of a table, or `*_label-lesion_roi.nii.gz`",
    "fixed_labels": "`--fixed-labels`",
    "moving_labels": "`--labels`, or column `labels` of a table",
}
#: What is no option of the registration itself, but where and how it runs.
_SETTINGS = "their parts above"
RUNS = (
    (
        "images",
        "`--fixed`, `--moving`",
        "`fixed`, `moving`",
        "`fixed_image`, `moving_image`",
        "`inputnode.fixed_image`, `inputnode.moving_image`",
        "`--fixed`, data set or table",
    ),
    ("device", "`--device`", "`device`", "`use_gpu`", "`use_gpu`", "`--device`, `--n-gpus`"),
    (
        "threads",
        "`--num-threads`",
        "those of torch and ITK",
        "`num_threads`",
        "`omp_nthreads`",
        "`--num-threads`, `--n-procs`",
    ),
    (
        "intermediate files",
        "`--work-dir`",
        "`work_dir`",
        "Nipype's `base_dir`",
        "Nipype's `base_dir`",
        "`--work-dir`",
    ),
    ("settings of the optimiser", _SETTINGS, "`settings`", _SETTINGS, _SETTINGS, _SETTINGS),
)


def interfaces() -> str:
    """Return the table of the interfaces that have each option."""
    rows = [_option(option) for option in OPTIONS.values()]
    rows += [_file(option) for option in SCAN_FILES.values()]
    return _markdown(HEADS, [*rows, *RUNS])


def meanings() -> str:
    """Return the table of the values and meanings of each option."""
    rows = [_meaning(option) for option in (*OPTIONS.values(), *SCAN_FILES.values())]
    return _markdown(("option", "values", "default", "meaning"), rows)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (heads, ["---"] * len(heads), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _meaning(option: Option) -> tuple[str, ...]:
    values = {
        Kind.FILE: ["a file"],
        Kind.COUNT: [f"a whole number of at least {option.least}"],
        Kind.COUNTS: [f"whole numbers of at least {option.least}"],
        Kind.FLAG: ["yes or no"],
    }.get(option.kind, [f"`{name}`" for name in option.choices])
    values += ["a file"] if option.kind is Kind.NAME_OR_FILE else []
    default = "" if option.default is None or option.default is False else f"`{option.default}`"
    return f"`{option.flag}`", ", ".join(values), default, option.help


def _option(option: Option) -> tuple[str, ...]:
    names = {
        "command": option.flag,
        "Python": option.name,
        "node": option.trait,
        "workflow": option.name,
        "cohort": option.flag,
    }
    return option.title, *(
        option.without.get(interface) or f"`{names[interface]}`" for interface in INTERFACES
    )


def _file(option: Option) -> tuple[str, ...]:
    names = (option.flag, option.name, option.trait, f"inputnode.{option.trait}")
    cells = [f"`{name}`" for name in names]
    if option.name.endswith("labels"):
        cells[-1] += " with `labels=True`"
    return option.title, *cells, COHORT_FILES[option.name]


if __name__ == "__main__":
    print(meanings(), interfaces(), sep="\n\n")
