"""The sections of the page: each module builds the values of one section, without HTML."""
