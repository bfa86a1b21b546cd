# SPDX-License-Identifier: BSD-3-Clause
"""Which Debian package has what a build missed: a header, a library, a pkg-config file, a program.

    lookup.py    the answer: one package, several that it may be, or none that is sure
    table.py     one file for each release and architecture, made of the distribution's whole Contents index
    reading.py   what a line of a Contents index says that a build could miss
    fetching.py  the indexes, by apt, from the mirror that this machine's apt uses
    update.py    fetch, read, write; or from a file

The bundled table (`master/data/contents-common.tsv`) has the commonest names and needs no network. This
package imports only `core`.
"""

from piwheels_node.master.contents.lookup import Contents, debian_package

__all__ = ["Contents", "debian_package"]
