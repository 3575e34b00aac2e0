"""`python -m service.probe [PATH]`: a container's health check. Exit code 0 where this process's address answers 200.

It asks the port of HANSE_HTTP_ADDRESS on loopback for PATH (/healthz if left out) and prints the answer, which names
what is away; the container engine keeps it.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT = 3.0
OK = 200


def probe(address: str, path: str) -> tuple[bool, str]:
    """Whether `path` at the port of `address` answers 200, and what it says."""
    connection = HTTPConnection("127.0.0.1", int(address.rpartition(":")[2]), timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status == OK, answer.read(2_000).decode("utf-8", "replace").strip()
    except (OSError, HTTPException) as error:
        return False, f"{address}{path}: {error}"
    finally:
        connection.close()


def main() -> None:
    """Ask, tell, and end with 0 or 1."""
    address = os.environ.get("HANSE_HTTP_ADDRESS", "")
    if not address.rpartition(":")[2].isdigit():
        sys.exit("HANSE_HTTP_ADDRESS is not set in this container; name the address that the process serves")
    fine, said = probe(address, sys.argv[1] if len(sys.argv) > 1 else "/healthz")
    print(said)  # noqa: T201  (what the engine shows of a health check)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
