"""aiosmtpd with STARTTLS and a sign-in: server.py CERTIFICATE KEY PASSWORD. Prints its port, then each mail that it took as a line of JSON."""

import asyncio
import email
import email.policy
import json
import logging
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult


# A client that breaks off TLS, as one test has it do, is a trace in its log: what matters is what the test says of it.
logging.disable()
warnings.simplefilter("ignore")


class Take:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        taken = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None,
            "faults": [str(part) for part in mail.defects],
            "headers": dict(mail.items()),
            "text": mail.get_content(),
        }
        print(json.dumps(taken), flush=True)
        return "250 taken"


async def serve(certificate, key, password):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    def is_right(server, session, envelope, mechanism, given):
        right = given.login == b"ml" and given.password == password.encode()
        return AuthResult(success=right, handled=False)

    def one():
        return SMTP(Take(), tls_context=context, require_starttls=True, auth_required=True, authenticator=is_right)

    server = await asyncio.get_running_loop().create_server(one, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(serve(*sys.argv[1:]))
