"""`python -m tests.fuzz NUMBER...`: the texts of these cases, the messages they get, and what is wrong with them."""

import sys
import tempfile
from pathlib import Path

from dlc.diagnostics import render_all
from dlc.driver import check_file
from tests.fuzz.cases import case, faults, write

for number in map(int, sys.argv[1:]):
    with tempfile.TemporaryDirectory() as name:
        shown = case(number)
        print(f"--- case {number}, {shown.origin}\n{shown.text}\n--- messages")
        print(render_all(*check_file(str(write(shown, Path(name))))))
        print(*(f"--- fault: {fault}" for fault in faults(shown, Path(name))), sep="\n")
