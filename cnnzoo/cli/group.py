"""The group of commands: its help by subject, and errors as one line."""

from __future__ import annotations

import errno
import gc
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import click

from cnnzoo.errors import CnnzooError, is_out_of_memory
from cnnzoo.files import os_reason
from cnnzoo.streams import display_stream, result_stream

_WORDS = "cnnzoo.words"  # key of the command line in the context


class Commands(click.Group):
    """A command group that prints errors and warnings on one line.

    Exit codes: 0 success, 1 failure, 2 wrong usage, 130 Ctrl-C.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections: dict[str, list[click.Command]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Adds commands that the help shows under a title."""
        self.sections[title] = list(commands)
        for command in commands:
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands by section, with the whole first sentence of each."""
        width = max(len(str(name)) for name in self.commands)
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{c.name:{width}}", c.get_short_help_str(limit=1000)) for c in commands])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keeps the command line, for the message about an unknown option."""
        ctx.meta[_WORDS] = list(args)
        return super().parse_args(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the command line; help that cannot be written is an error too."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if (message := _message(error)) is None:
                raise
            print_error(message)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command, in colors on a terminal unless ``NO_COLOR`` is set (no-color.org)."""
        ctx.color = False if os.environ.get("NO_COLOR") else None
        with redirect_stdout(result_stream()), redirect_stderr(display_stream()):
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings(), _rare_garbage_collection():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except click.NoSuchOption as error:
            if (line := _line_for_option(error, ctx.meta[_WORDS])) is None:
                raise
            raise click.UsageError(f"No such option '{error.option_name}': write {line}", error.ctx) from None
        except (CnnzooError, OSError, MemoryError, RuntimeError, ImportError) as error:
            if (message := _message(error)) is None:
                raise
            print_error(message)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            exec("")  # python -m would end by SIGINT if a string was executed just now, as imports do
            ctx.exit(130)


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Lets Python search for reference cycles less often: the imports of a command then take a fifth less time."""
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def _line_for_option(error: click.NoSuchOption, words: Sequence[str]) -> str | None:
    """Returns what to write instead of an option that is a setting of training or a knob; None if it is neither.

    Args:
        error: The error about the option.
        words: The command line.
    """
    if error.ctx is None:
        return None
    from cnnzoo.edits import KNOBS
    from cnnzoo.stored_recipes import stored_recipes

    options = {parameter.name for parameter in error.ctx.command.params}
    name = error.option_name.lstrip("-").replace("-", "_")
    i = next((i for i, word in enumerate(words) if word.partition("=")[0] == error.option_name), len(words))
    word, following = [*words[i : i + 2], "", ""][:2]
    value = word.partition("=")[2] or ("VALUE" if following.startswith("-") or not following else following)
    if "settings" in options and name in stored_recipes().help:
        return f"--set {shlex.quote(f'{name}={value}')}"
    if "knobs" in options and name in KNOBS:
        return f"-k {shlex.quote(f'{name}={value}')}"
    if "names" in options and (name in KNOBS or name in ("k", "knob")):  # bench
        knob = f"{name}={value}" if name in KNOBS else "activation=relu" if value == "VALUE" else value
        return f"knobs behind the name of each network, such as 'lenet({knob})'"
    return None


def _message(error: Exception) -> str | None:
    """Returns what went wrong; None for a closed pipe, which click handles, and for a fault of the program."""
    if isinstance(error, CnnzooError):
        return str(error)
    if is_out_of_memory(error):
        reason = re.sub(r"^\[enforce fail at .*?\] (err == 0\. )?", "", str(error)).partition("\n")[0] or "none is left"
        return f"out of memory: {reason}. A smaller batch, smaller images or a smaller network need less."
    if isinstance(error, OSError) and error.errno != errno.EPIPE:  # EPIPE: the reader closed the pipe
        what = "the output cannot be written" if error.filename is None else error.filename
        return f"{what}: {os_reason(error)}"
    return None


def print_error(error: object) -> None:
    """Prints an error as one line on standard error."""
    click.echo(f"{click.style('error:', fg='red')} {error}", err=True)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"{click.style('warning:', fg='yellow')} {message}", err=True)
