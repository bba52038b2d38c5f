"""An output folder's documents before the judges of their formats.

    python tests/bench/check_documents.py OUT [--alto-schema alto-4-2.xsd]

Exports OUT as hocr, alto and pagexml into a temporary folder and prints what is wrong: hOCR by hocr-spec, PAGE by its
official schema (fetched from PyPI), ALTO by the schema given (https://www.loc.gov/standards/alto/v4/alto-4-2.xsd; it is
in no package) or else by our own rules. Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from producer.output.formats import export_results
from tests.document_checks import alto_rules, alto_schema, hocr_problems, page_schema, schema_problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--alto-schema", type=Path)
    arguments = parser.parse_args()
    alto = alto_schema(arguments.alto_schema) if arguments.alto_schema else alto_rules()
    page = page_schema()
    judges: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
        "hocr": ("*.hocr", hocr_problems),
        "alto": ("*.xml", lambda file: schema_problems(file, alto)),
        "pagexml": ("*.xml", lambda file: schema_problems(file, page)),
    }
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        for name, (pattern, judge) in judges.items():
            files = sorted(export_results(arguments.out, name, Path(temporary) / name).rglob(pattern))
            problems = [problem for file in files for problem in judge(file)]
            print(f"{name}: {len(files)} files, {len(problems)} problems")
            for problem in problems[:20]:
                print(f"  {problem}")
            wrong += len(problems)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
