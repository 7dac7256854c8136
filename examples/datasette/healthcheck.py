"""Exit 0 if this container's Datasette answers /-/versions.json with a 200, else 1."""

import http.client
import json
import sys


def main() -> int:
    """Print what was answered; the engine keeps it as the check's output."""
    connection = http.client.HTTPConnection("127.0.0.1", 8001, timeout=2)
    try:
        connection.request("GET", "/-/versions.json")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            print(f"status {response.status}")
            return 1
        print("datasette", json.loads(body)["datasette"]["version"])
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        print(f"no answer: {error!r}")
        return 1
    finally:
        connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
