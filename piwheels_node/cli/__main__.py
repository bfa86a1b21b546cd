# SPDX-License-Identifier: BSD-3-Clause
"""`python -m piwheels_node.cli`: the same as the installed command."""

from piwheels_node.cli.main import main

main()
