"""The interactive page of a network: one offline HTML file in which it runs."""

from cnnzoo.live.images import PageImages, choose_images
from cnnzoo.live.page import PageNetwork, page_network, render_page

__all__ = ["PageImages", "PageNetwork", "choose_images", "page_network", "render_page"]
