"""Sphinx configuration of the documentation: ``make docs`` builds it without a network, warnings are errors."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import pkgutil
import re
from contextlib import suppress
from types import ModuleType
from typing import Any, get_type_hints

from airflow.sdk import BaseOperator
from docutils import nodes
from pydantic import BaseModel
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.inspect import signature
from sphinx.util.nodes import make_refnode

import airflow_provider_imagegen

project = "airflow-provider-imagegen"
author = "The authors of airflow-provider-imagegen"
release = version = airflow_provider_imagegen.__version__
html_title = f"{project} {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 3
myst_heading_slug_func = "github"
# Copy the commands of console blocks without prompts and output.
copybutton_exclude = ".linenos, .gp, .go"

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"exclude-members": "model_config, model_post_init"}
python_use_unqualified_type_names = True
add_module_names = False

nitpicky = True
# Sphinx loads no inventories from the network, so only names of this package can be links. Ignore all other packages.
_OTHERS = (
    "airflow|asyncio|boto3|collections|contextlib|datetime|decimal|enum|httpcore|httpx|mypy_boto3_s3|pathlib|pydantic"
    "|ssl|types|typing"
)
_BUILT_IN = "|".join(name for name in dir(builtins) if not name.startswith("_"))
nitpick_ignore_regex = [("py:.*", rf"(?:{_OTHERS})(?:\..*)?"), ("py:.*", _BUILT_IN)]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["calm.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#5b4b8a", "color-brand-content": "#4f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#b9a8e6", "color-brand-content": "#a3b4f0"},
}


def _package_modules() -> list[ModuleType]:
    modules = pkgutil.walk_packages(airflow_provider_imagegen.__path__, "airflow_provider_imagegen.")
    return [importlib.import_module(module.name) for module in modules if ".emulator" not in module.name]


def _import_what_annotations_name(module: ModuleType) -> None:
    """Run the imports for type checkers, so that Sphinx can resolve every annotation."""
    blocks = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.If)]
    for statement in (node for block in blocks if ast.unparse(block.test) == "TYPE_CHECKING" for node in block.body):
        # Some types exist in stub packages only.
        with suppress(ImportError):
            code = compile(ast.Module([statement], []), module.__file__ or "", "exec")
            exec(code, vars(module))  # noqa: S102 - imports of our own


def _show_types_of(kind: type) -> None:
    """Show Sphinx the types of a class whose metaclass hides them."""
    if issubclass(kind, BaseOperator):
        kind.__signature__ = signature(kind.__init__, bound_method=True).replace(return_annotation=None)
    if issubclass(kind, BaseModel):
        # Without annotated constraints, such as the allowed range of a field.
        kind.__annotations__ = {name: get_type_hints(kind)[name] for name in vars(kind).get("__annotations__", {})}


for _module in _package_modules():
    _import_what_annotations_name(_module)
for _module in _package_modules():
    for _kind in vars(_module).values():
        if isinstance(_kind, type) and _kind.__module__ == _module.__name__:
            _show_types_of(_kind)


def _quote_underscores(*event: Any) -> None:
    """Escape parameters such as ``async_``, which docutils would parse as links."""
    lines: list[str] = event[-1]
    lines[:] = [re.sub(r"^(:param \w+)_:", r"\1\\_:", line) for line in lines]


def _find_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contents: nodes.Node
) -> nodes.Node | None:
    """Resolve a class of another package by its last name, if the name is unique."""
    domain, target = env.domains.python_domain, node.get("reftarget", "")
    if node.get("refdomain") != "py" or "." in target:
        return None
    found = domain.find_obj(env, "", "", target, node["reftype"], 1)
    if len(found) != 1:
        return None
    name, entry = found[0]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, [contents], name)


def setup(app: Sphinx) -> None:
    """Connect the handlers; called by Sphinx."""
    app.connect("autodoc-process-docstring", _quote_underscores)
    app.connect("missing-reference", _find_by_last_name)
