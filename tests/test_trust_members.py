"""Trust between members: whatever kind of key they show each other, a request comes to the session's owner."""

import pytest

from harness import JSON, response
from harness.members import SERVER_NAME
from harness.stage import MCP, Http1Client, call, result


def owning(session: str):
    """A server that opens this session and knows no other."""

    def script(connection):
        while True:
            request = connection.read_request()
            begins = b'"initialize"' in request.body
            known = begins or request.header("mcp-session-id") == session
            headers = {"Mcp-Session-Id": session} if begins else {}
            connection.send(response(200 if known else 404, result(session=session), headers))

    return script


@pytest.mark.parametrize("kind", ["rsa", "ec", "ed25519"])
@pytest.mark.parametrize("passphrase", [None, "correct horse"], ids=["plain", "encrypted"])
def test_members_know_each_other_by_any_kind_of_key(members, redis_server, raw_upstream, pki, kind, passphrase):
    label = f"member-{kind}-{passphrase}"
    shown = pki.client(SERVER_NAME, kind=kind, passphrase=passphrase, label=label, serving=True)
    tls = {**shown.as_config(), "ca": str(pki.ca), "server_name": SERVER_NAME}
    servers = [raw_upstream(owning(session)) for session in ("a", "b")]
    both = members(redis_server(), [[server.address] for server in servers], pki, {"member": {"tls": tls}})
    with Http1Client(both[0].address) as client:
        assert client.ask("POST", MCP, call("initialize"), JSON).header("mcp-session-id") == "a"
    for _ in range(3):
        with Http1Client(both[1].address) as client:
            answer = client.ask("POST", MCP, call(), {**JSON, "Mcp-Session-Id": "a"})
            assert (answer.status, answer.json) == (200, result(session="a"))
    assert servers[1].requests == []
