"""Whether a run on this machine is well, by its page: `python -m edgeprune.runtime.page.health 8080`. Exit code 0: frames come.

For a container's HEALTHCHECK, which has the environment of the run, its token included; it imports none of the page's
libraries.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

from edgeprune.runtime.page.address import TOKEN_VARIABLE

TIMEOUT_S = 4.0


def ask(port: int) -> tuple[bool, str]:
    """Whether the page at this port of the loopback says that frames come, and what it says."""
    token = os.environ.get(TOKEN_VARIABLE)
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz", headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status == 200, answer.read(200).decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        return False, f"no page at port {port}: {error}"
    finally:
        connection.close()


if __name__ == "__main__":
    well, said = ask(int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
    print(said)
    sys.exit(0 if well else 1)
