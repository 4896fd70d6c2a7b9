"""What the tools for frameworks share: what a model is told."""

from typing import Literal

from . import _async, _sync

Language = Literal["Python", "JavaScript", "shell"]


def words(session: _sync.Session | _async.AsyncSession, language: Language | None) -> tuple[str, str]:
    """The name and the description of the tool that runs code in a session."""
    if language is None:
        language = "shell" if session.shell else "Python"
    if language == "shell":
        return "run_shell", (
            "Runs commands in bash, in a sandbox without access to this machine. The shell stays: directory, "
            "variables and files are there for the next call. Returns what they print and their exit code."
        )
    return f"run_{language.lower()}", (
        f"Runs {language} code in a sandbox without access to this machine. Variables and files (in /mnt/data) "
        "are there for the next call. Returns what it prints, the value of the last expression, and figures."
    )
