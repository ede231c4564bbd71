"""The reference of the command line, from its own help texts."""

from __future__ import annotations

import inspect

import click

import cnnzoo.cli
from sitegen.markdown import cell, escape


def all_commands() -> str:
    """Returns every command with its usage and its options."""
    parts = []
    for name, command in cnnzoo.cli.main.commands.items():
        context = click.Context(command, info_name=f"cnnzoo {name}")
        usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
        description = escape(inspect.cleandoc(command.help or ""))
        parts += [f"## cnnzoo {name}", "", description, "", "```text", usage, "```", ""]
        records = filter(None, (option.get_help_record(context) for option in command.params))
        if command.epilog:
            examples = "\n".join(line.strip() for line in command.epilog.replace("\b", "").splitlines()[2:])
            parts += ["```text", examples, "```", ""]
        options = [(option, meaning) for option, meaning in records if meaning]
        if options:
            parts += ["| option | |", "| --- | --- |"]
            parts += [f"| `{cell(option)}` | {cell(meaning)} |" for option, meaning in options]
        parts.append("")
    return "\n".join(parts)
