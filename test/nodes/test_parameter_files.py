"""Which nodes a section of a parameter file reaches: this package says what rclpy does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from vla_ros.ros.dds.domains import claim_domain
from vla_ros.ros.messages.interfaces import namespaced
from vla_ros.ros.parameter_files import parameter_sections, section_matches

SECTIONS = (
    "safety_node",
    "/safety_node",
    "left/safety_node",
    "/left/safety_node",
    "/arm/left/safety_node",
    "safety",
    "/**",
    "**",
    "/*",
    "*",
    "/*/*",
    "/**/safety_node",
    "**/safety_node",
    "/*/safety_node",
    "*/safety_node",
    "/left/**",
    "/left/*",
    "/arm/**",
    "/**/left/safety_node",
    "/left/**/safety_node",
    "/*/**",
    "/**/*",
    "/left/node",
)
NESTED = ("left", "/left", "/**", "arm/left")


@pytest.fixture
def context() -> Iterator[Context]:
    domain, claim = claim_domain()
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    yield context
    context.try_shutdown()
    claim.close()


@pytest.mark.parametrize("namespace", ["", "left", "arm/left"])
def test_a_section_reaches_the_nodes_that_rclpy_gives_it(tmp_path: Path, context: Context, namespace: str) -> None:
    section = {"ros__parameters": {"a_parameter": 1}}
    files = [{name: section} for name in SECTIONS] + [{name: {"safety_node": section}} for name in NESTED]
    for content in files:
        file = tmp_path / "params.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        node = rclpy.create_node(
            "safety_node",
            context=context,
            namespace=namespace,
            cli_args=["--ros-args", "--params-file", str(file)],
            use_global_arguments=False,
            automatically_declare_parameters_from_overrides=True,
            start_parameter_services=False,
        )
        reached = node.has_parameter("a_parameter")
        node.destroy_node()
        ((name, _),) = parameter_sections(str(file))[1]
        assert section_matches(name, namespaced("/safety_node", namespace)) is reached, content
