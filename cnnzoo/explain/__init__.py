"""Ways to look inside a trained network: what its layers compute, and which pixels matter.

The verbs are ``cnnzoo.explain``, ``cnnzoo.top_patches`` and ``cnnzoo.mistakes``; here are their results, and what
methods of your own use.
"""

from typing import TYPE_CHECKING

from cnnzoo.lazy import lazy_names

if TYPE_CHECKING:
    from cnnzoo.explain.activations import Activations
    from cnnzoo.explain.deconvnet import Projection
    from cnnzoo.explain.filters import Filters
    from cnnzoo.explain.mistakes import Mistakes
    from cnnzoo.explain.registry import METHODS, register_explanation
    from cnnzoo.explain.results import Attribution, Explanation
    from cnnzoo.explain.subject import Network, Subject
    from cnnzoo.explain.top_patches import TopPatches

__getattr__ = lazy_names(
    __name__,
    {
        "cnnzoo.explain.activations": ("Activations",),
        "cnnzoo.explain.deconvnet": ("Projection",),
        "cnnzoo.explain.filters": ("Filters",),
        "cnnzoo.explain.mistakes": ("Mistakes",),
        "cnnzoo.explain.registry": ("METHODS", "register_explanation"),
        "cnnzoo.explain.results": ("Attribution", "Explanation"),
        "cnnzoo.explain.subject": ("Network", "Subject"),
        "cnnzoo.explain.top_patches": ("TopPatches",),
    },
)

__all__ = [
    "METHODS",
    "Activations",
    "Attribution",
    "Explanation",
    "Filters",
    "Mistakes",
    "Network",
    "Projection",
    "Subject",
    "TopPatches",
    "register_explanation",
]
