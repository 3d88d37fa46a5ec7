"""Lines of docs/security.md that no other test holds: fields for passwords, what does not expire, and what does."""

import re
from pathlib import Path

import pytest
from tests.web.conftest import Clock

from heedlm.feedback.accounts import Accounts
from heedlm.feedback.database import Database
from heedlm.feedback.errors import Refused
from heedlm.stages import owner
from heedlm.stages.serve import Config
from heedlm.stages.serve.server import site
from heedlm.web import pages

PASSWORD = "correct horse battery"
TEMPLATES = Path(pages.__file__).parents[1] / "templates"


def test_fields_for_passwords_hide_them_and_let_managers_fill_them():
    fields = [
        (file.name, field)
        for file in sorted(TEMPLATES.glob("*.html"))
        for field in re.findall(r"<input\b[^>]*>", file.read_text(encoding="utf-8"))
        if "password" in field or 'name="old"' in field or 'name="new"' in field
    ]
    assert len(fields) >= 8
    for name, field in fields:
        assert 'type="password"' in field, f"{name}: {field}"
        assert re.search(r'autocomplete="(current|new)-password"', field), f"{name}: {field}"
        assert "maxlength" not in field, f"{name}: {field}"
    scripts = [file.read_text(encoding="utf-8") for file in TEMPLATES.parent.joinpath("static").rglob("*.js")]
    assert not [text for text in scripts if re.search(r'"paste"|onpaste', text)]


def test_passwords_are_taken_exactly_as_typed(home):
    spaced = "  Tuba Lemon Quiet  "
    home.state.accounts.create("ann", spaced, "chat")
    for wrong in (spaced.strip(), spaced.lower(), spaced[:-1], spaced + "x"):
        with pytest.raises(Refused):
            home.state.accounts.check("ann", wrong, wrong)
    assert home.state.accounts.check("ann", spaced, "here").name == "ann"
    long = "ä quiet tuba; " * 18
    home.state.accounts.create("ben", long, "chat")
    with pytest.raises(Refused):
        home.state.accounts.check("ben", long[:128], "here")
    assert home.state.accounts.check("ben", long, "here").name == "ben"


def test_passwords_do_not_grow_old(home):
    home.clock.time += 20 * 365 * 86400
    assert home.client("olga").get("/people").status_code == 200


def test_a_new_database_has_no_accounts(tmp_path):
    database = Database(str(tmp_path / "new.db"), Clock())
    assert list(Accounts(database).everybody()) == []
    for name in ("admin", "root", "owner", "heed"):
        with pytest.raises(Refused):
            Accounts(database).login(name, name, "here")
    database.close()


def test_sessions_end_after_fourteen_days_however_much_they_are_used(home, ok):
    olga = home.client("olga")
    for _ in range(28):
        home.clock.time += 12 * 3600 - 1
        ok(olga.get("/account"))
    home.clock.time += 60
    ok(olga.get("/account"), 401)


def test_the_command_line_gives_a_new_password_and_removes_the_factor(tmp_path, monkeypatch):
    file = str(tmp_path / "feedback.db")
    monkeypatch.setenv("HEED_PASSWORD", PASSWORD)
    owner.run(owner.Config(user="olga", database=file))
    database = Database(file)
    accounts = Accounts(database)
    olga = accounts.find("olga")
    secret = accounts.second.begin(olga.id)
    from tests.web.test_security import STEP, base64, one_time_password

    now = int(database.now()) // STEP
    accounts.second.confirm(olga.id, one_time_password(base64.b32decode(secret), now))
    monkeypatch.setenv("HEED_PASSWORD", "tuba lemon quiet")
    told = owner.run(owner.Config(user="olga", database=file, reset=True))
    assert "no second factor" in told["text"]
    assert accounts.login("olga", "tuba lemon quiet", "here")[1].user.name == "olga"
    database.close()


def test_the_setting_names_roles():
    assert Config().second_factor == ()
    config = Config(second_factor="owner, manager")
    assert site(config).second_factor == ("owner", "manager")
    with pytest.raises(ValueError, match="second_factor"):
        Config(second_factor="visitor")
