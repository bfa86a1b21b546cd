# SPDX-License-Identifier: BSD-3-Clause
"""What is read from the scripts of Debian's packages about their alternatives."""

import pytest

from piwheels_node.builder.roots.alternatives import alternatives

OPENBLAS = """\
#!/bin/sh
set -e

update-alternatives --install /usr/lib/arm-linux-gnueabihf/libblas.so \\
                    libblas.so-arm-linux-gnueabihf \\
                    /usr/lib/arm-linux-gnueabihf/openblas-pthread/libblas.so \\
                    100 \\
                    --slave /usr/lib/arm-linux-gnueabihf/pkgconfig/blas.pc \\
                    blas.pc-arm-linux-gnueabihf \\
                    /usr/lib/arm-linux-gnueabihf/openblas-pthread/pkgconfig/blas-openblas.pc

exit 0
"""
OPENMPI = """\
if [ "$1" = "configure" ]; then

update-alternatives \\
\t--install /usr/bin/mpicc mpi /usr/bin/mpicc.openmpi 50 \\
\t--slave /usr/bin/mpicxx mpicxx /usr/bin/mpic++.openmpi

fi
"""
GFORTRAN = """\
update-alternatives --install /usr/bin/f95 f95 /usr/bin/gfortran 20 \\
  #--slave /usr/share/man/man1/f95.1.gz f95.1.gz /usr/share/man/man1/gfortran.1.gz
"""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            OPENBLAS,
            {
                "/usr/lib/arm-linux-gnueabihf/libblas.so": (
                    "/usr/lib/arm-linux-gnueabihf/openblas-pthread/libblas.so"
                ),
                "/usr/lib/arm-linux-gnueabihf/pkgconfig/blas.pc": (
                    "/usr/lib/arm-linux-gnueabihf/openblas-pthread/pkgconfig/blas-openblas.pc"
                ),
            },
        ),
        (OPENMPI, {"/usr/bin/mpicc": "/usr/bin/mpicc.openmpi", "/usr/bin/mpicxx": "/usr/bin/mpic++.openmpi"}),
        (GFORTRAN, {"/usr/bin/f95": "/usr/bin/gfortran"}),
        ('update-alternatives --install "$link" x /usr/bin/x 1', {}),
        ("update-alternatives --install /etc/x x /usr/bin/x 1", {}),
        ("update-alternatives --install /usr/bin/x x '/usr/bin/x 1", {}),
        ("update-alternatives --remove x /usr/bin/x", {}),
        ("update-alternatives --install /usr/bin/x x", {}),
        ("", {}),
    ],
    ids=[
        "openblas",
        "openmpi",
        "gfortran",
        "variable",
        "elsewhere",
        "open quote",
        "remove",
        "cut off",
        "none",
    ],
)
def test_links_are_read_from_plain_words(script, expected):
    assert alternatives(script) == expected
