"""The guide's Sphinx configuration: `tox -e docs` builds it, and a warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import matrix

project = "torch-vllm-matrix"
version = release = matrix.__version__
project_copyright = "the authors of torch-vllm-matrix"
html_title = "torch × vLLM matrix"

extensions = [
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_argparse_cli",
    "sphinxcontrib.mermaid",
    "guide.extension",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_ext"]
nitpicky = True
# Options begin with two dashes in running text, too; a block without a language has none.
smartquotes = False
highlight_language = "none"

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 4

# The picture of the rooms. Mermaid itself is read from a public server when a page is shown.
mermaid_fullscreen = False
mermaid_height = "900px"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_copy_source = False
html_show_sourcelink = False

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_remove_prompts = True
