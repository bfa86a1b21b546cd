# SPDX-License-Identifier: BSD-3-Clause
"""Build roots, and the layers that are laid over them: which Debian a build sees as `/usr`.

    tree.py      a Debian as a tree of files: the host itself, or one that was made
    making.py    making, listing, updating and removing roots (mmdebstrap)
    apt.py       which packages a root lacks, and fetching them, without touching the host
    unpack.py    archives of Debian's as plain files, nothing of them run
    layers.py    packages of one build, kept on a shelf, one directory for each
    view.py      a root and its layers as one `/usr`

Nothing here runs package code, and nothing runs maintainer scripts of a layer's packages.
"""
