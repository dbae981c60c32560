"""What is named like a secret is shown nowhere."""

import pytest

from jiffy.producer.masking import is_secret, is_secret_place, masked, masked_text


@pytest.mark.parametrize(
    "name",
    [
        "password", "new_password", "db_passwd", "passphrase", "pwd", "secret", "client_secret",
        "token", "access_token", "tokens", "api_key", "apikey", "apiKey", "API-KEY", "private_key",
        "credentials", "authorization", "pin", "pass", "auth", "basic_auth", "jwt", "cookie",
        "dsn", "SENTRY_DSN", "connection_string", "sessionId", "passcode", "card_number",
        "DB_PASS", "smtp_pass", "authtoken", "csrftoken", "dbpwd", "totp", "cvc", "ssn", "oauth",
        "auth_header", "encryption_key", "signing_key", "session_key", "seed_phrase",
        "conn_str", "privkey", "rsa_key", "admin_pw", "creds", "psk", "auth_code", "recoveryCode",
        "backup_code", "signature", "X-Amz-Signature", "AccountKey", "iban",
        "passWord", "user_pass_word", "pass_phrase", "admin_pass", "ansible_become_pass",
        "rootPass", "auth_key", "tlsKey", "aes_key", "decryption_key", "license_key", "stripe_key",
        "id_rsa", "token1", "sms_code", "oneTimeCode", "card_no", "creditCard", "cc_num",
        "seed_words",
    ],
)  # fmt: skip
def test_these_are_secrets(name):
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "path", "key", "author", "tokenizer", "pinned", "passenger", "width", "passes",
        "boarding_pass", "bypass", "cookiecutter", "authority", "session", "monkey", "user",
        "zip_code", "error_code", "design", "signal", "storage_key", "first_pass", "low_pass",
        "compass", "discard_no", "design_key", "author_key",
    ],
)  # fmt: skip
def test_these_are_not(name):
    assert not is_secret(name)


def test_secrets_are_masked_wherever_they_stand():
    more = [
        {"password": 5},
        ("x", {"pin": 1234}),
        "amqp://u:p%40@h/v",
        "http://h?a=1&api_key=K&b=2",
        "https://h/#access_token=K;sig=S",
    ]
    value = {"user": "ada", "token": "t", "more": more}

    assert repr(masked(value)) == (
        "{'user': 'ada', 'token': ***,"
        " 'more': [{'password': ***}, ('x', {'pin': ***}), 'amqp://u:***@h/v',"
        " 'http://h?a=1&api_key=***&b=2', 'https://h/#access_token=***']}"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("f('bob', api_key='K', x=5)", "f('bob', api_key=***, x=5)"),
        ("f(pin=1234, token=b'x', cvv=None)", "f(pin=***, token=***, cvv=None)"),
        ("f({'password': 'a', 'b': 1})", "f({'password': ***, 'b': 1})"),
        ("f(password='it\\'s, one', b=1)", "f(password=***, b=1)"),
        ('f(password="it\'s", b=1)', "f(password=***, b=1)"),
        ("f(x=[1, 2], tokens=['a', 'b'])", "f(x=[1, 2], tokens=***"),
        ("f(password='cut off...", "f(password=***"),
        ("f(api_key=***, x=5)", "f(api_key=***, x=5)"),
        ("order 18 for bob", "order 18 for bob"),
        ("f('redis://:p@h:6379/0', 'http://h:80/a@b')",
         "f('redis://:***@h:6379/0', 'http://h:80/a@b')"),
        ("f('amqp://u:p@s@h', 'https://key@h/1')", "f('amqp://u:***@h', 'https://***@h/1')"),
        (f"f('pg://u:{'s' * 300}@h')", "f('pg://u:***@h')"),
        ("f('pg://u:cut short...)", "f('pg://u:cut short...)"),
        ("f('pg://u:cut_short..., x=1)", "f('pg://u:***..., x=1)"),
        ("f('http://h:8000...)", "f('http://h:8000...)"),
        ("""f('{"api_key":"K","a":1}')""", """f('{"api_key":***,"a":1}')"""),
    ],
)  # fmt: skip
def test_a_call_in_words_is_masked_by_its_names(text, shown):
    assert masked_text(text) == shown


@pytest.mark.parametrize(
    ("places", "secret"),
    [("", []), ("1", [1]), ("0,2", [0, 2]), ("3-", [3, 4, 5]), ("1,4-", [1, 4, 5])]
    + [(odd, []) for odd in ("-", "x", "x-", "²", "²-", ",", "1-2")],
)
def test_places_of_secrets_are_read_as_they_are_written_and_odd_ones_passed_over(places, secret):
    assert [number for number in range(6) if is_secret_place(places, number)] == secret
