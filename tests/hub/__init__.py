"""A Hub on this machine for the tests: datasets that are created, pushed to, branched and read.

It answers what ``huggingface_hub`` and ``datasets`` ask of huggingface.co when Xet is disabled,
and it fails where it is told to. Blobs lie on the disk, under the folder given.

::

    with serving(folder) as hub:
        hub.fault_at(3, "reset")
        subprocess.run([sys.executable, "client.py"], env=hub.environment(home))
        hub.files("org/name")

``python -m tests.hub FOLDER`` serves until its standard input ends. Of the Hub's own behaviour
these are left out: Xet, models and spaces, tags, gated repositories, and commits of copied files
of another repository.
"""

from tests.hub._faults import KINDS, Fault, Request
from tests.hub._server import Hub, serving
from tests.hub._store import Commit, Entry

__all__ = ["KINDS", "Commit", "Entry", "Fault", "Hub", "Request", "serving"]
