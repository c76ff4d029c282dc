"""An interrupt ends a command wherever it comes."""

import subprocess
import sys

CODE = """
import signal, sys, time, weakref
from robustvit.cli import app

signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background inherits that it is ignored

class Thing: pass

def interrupted(_): raise KeyboardInterrupt

def command():
    thing = Thing()
    watched = weakref.ref(thing, interrupted)
    del thing
    time.sleep(30)

sys.argv = ["robustvit"]
app.app = command
app.main()
"""


def test_an_interrupt_that_python_drops_in_a_callback_ends_the_command() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=25, check=False)
    assert (done.returncode, done.stderr) == (130, "")
