"""kill -9 at random moments of a run; `python -m support.kills` does it more often."""

import json

from support.processes import run_python


def test_runs_that_are_killed_leave_a_whole_index_and_go_on(tmp_path):
    done = run_python("-m", "support.kills", "--kills", 10, "--folder", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert counts["killed"] == 10
    assert counts["partial"] >= 1
