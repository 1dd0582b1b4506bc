"""`config show`: the settings in use."""

import typer

from connector.cli.context import open_session
from connector.cli.options import ConfigFile, EnvFile, OutputFormat
from connector.cli.output import Output, Result, echo_err, render, table_lines
from connector.config import redacted

app = typer.Typer(rich_markup_mode=None)
config_app = typer.Typer(no_args_is_help=True, help="The settings in use.")
app.add_typer(config_app, name="config")


@config_app.command()
def show(config: ConfigFile = None, env_file: EnvFile = None, output: OutputFormat = Output.TEXT) -> None:
    """Show the settings in use and where each comes from; keys are not shown."""
    settings = open_session(config, env_file, secrets=False).settings
    shown = [(setting.name, setting.value, setting.source) for setting in redacted(settings)]
    data = {
        "settings": [{"name": name, "value": value, "source": source} for name, value, source in shown],
        "ignored": list(settings.unused),
    }
    render("config show", Result(data, table_lines("", ("setting", "value", "from"), shown)), output)
    for name in settings.unused if output is Output.TEXT else ():
        echo_err(f"ignored: {name}, which no connection of the configuration file names")
