"""Imports each verb's module when the verb runs: importing all of them takes 0.3 s."""

from __future__ import annotations

from collections.abc import Mapping

import click

Commands = Mapping[str, click.Command]  # by verb


def up() -> Commands:
    from rescoldo.cli.verbs.up import up_command, watch_command

    return {"up": up_command, "watch": watch_command}


def local() -> Commands:
    from rescoldo.cli.verbs.local import down_command, status_command

    return {"down": down_command, "status": status_command}


def serve() -> Commands:
    from rescoldo.cli.verbs.serve import serve_command

    return {"serve": serve_command}


def new() -> Commands:
    from rescoldo.cli.verbs.new import new_command

    return {"new": new_command}


def validate() -> Commands:
    from rescoldo.cli.verbs.validate import validate_command

    return {"validate": validate_command}


def build() -> Commands:
    from rescoldo.cli.verbs.build import build_command

    return {"build": build_command}


def diff() -> Commands:
    from rescoldo.cli.verbs.diff import diff_command

    return {"diff": diff_command}


def deploy() -> Commands:
    from rescoldo.cli.verbs.deploy import deploy_command, remove_command

    return {"deploy": deploy_command, "remove": remove_command}


def functions() -> Commands:
    from rescoldo.cli.verbs.functions import describe_command, list_command, ready_command, scale_command

    return {"list": list_command, "describe": describe_command, "scale": scale_command, "ready": ready_command}


def revisions() -> Commands:
    from rescoldo.cli.verbs.revisions import revisions_command, rollback_command, traffic_command

    return {"revisions": revisions_command, "rollback": rollback_command, "traffic": traffic_command}


def pause() -> Commands:
    from rescoldo.cli.verbs.pause import pause_command, resume_command

    return {"pause": pause_command, "resume": resume_command}


def invoke() -> Commands:
    from rescoldo.cli.verbs.invoke import invoke_command

    return {"invoke": invoke_command}


def logs() -> Commands:
    from rescoldo.cli.verbs.logs import logs_command

    return {"logs": logs_command}


def replay() -> Commands:
    from rescoldo.cli.verbs.replay import replay_command

    return {"replay": replay_command}


def secret() -> Commands:
    from rescoldo.cli.verbs.secret import secret_command

    return {"secret": secret_command}


def namespace() -> Commands:
    from rescoldo.cli.verbs.namespace import namespace_command

    return {"namespace": namespace_command}


def access() -> Commands:
    from rescoldo.cli.verbs.access import login_command, logout_command

    return {"login": login_command, "logout": logout_command}


def generate() -> Commands:
    from rescoldo.cli.verbs.generate import generate_command

    return {"generate": generate_command}


def store() -> Commands:
    from rescoldo.cli.verbs.store import store_command

    return {"store": store_command}


def template() -> Commands:
    from rescoldo.cli.verbs.template import template_command

    return {"template": template_command}


def kubernetes() -> Commands:
    from rescoldo.cli.kubernetes import kubernetes_command

    return {"kubernetes": kubernetes_command}


def version() -> Commands:
    from rescoldo.cli.verbs.version import completion_command, help_command, version_command

    return {"version": version_command, "help": help_command, "completion": completion_command}
