"""Entry point of the process that parses Sigma and YARA rules: they come from outside, and compilers need memory.

It reads `{"sigma": [text], "yara": [text]}` on standard input and writes the list of errors, each with its path, on
standard output. Its memory and time are limited.
"""

import json
import resource
import sys
from collections.abc import Iterator

from manager.domain.policies.sigma import sigma_errors

_MEMORY = 1 << 30
_CPU_SECONDS = 10


def yara_errors(text: str) -> Iterator[str]:
    """Yield the errors of a YARA source, each with line and column; it may not include files."""
    import yara_x  # noqa: PLC0415 -- 37 MB that only a document with YARA rules needs

    compiler = yara_x.Compiler()
    compiler.enable_includes(False)
    try:
        compiler.add_source(text)
    except yara_x.CompileError as error:
        found = compiler.errors()
        for each in found:
            label = next((label["text"] for label in each.get("labels", ()) if label.get("text")), "")
            yield f"line {each['line']}, column {each['column']}: {each['title']}" + (f", {label}" if label else "")
        if not found:
            yield str(error).partition("\n")[0]


def main() -> int:
    """Check the rules on standard input."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    rules = json.load(sys.stdin)
    errors = [
        f"detection.{name}.{index}: {error}"
        for name, check in (("sigma", sigma_errors), ("yara", yara_errors))
        for index, text in enumerate(rules[name])
        for error in check(text)
    ]
    json.dump(errors, sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
