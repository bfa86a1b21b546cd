# SPDX-License-Identifier: BSD-3-Clause
"""The consumer: a machine whose pip and uv find wheels for it without being told.

    pip_files, pip_config    what pip will really use, and one line more in one file
    uv_config                the same for uv
    switch                   both, on and off, and what was changed where
    trust                    making this machine believe a master's own certificate
    index, pages             which index is meant, and what it says of a project
    environment, libraries   which installed wheels lack shared libraries
    debian                   which packages would bring them, by apt
    doctor, checks           what is wrong with this machine, and what would mend it
    report, roles            how it stands: the lines of `status`

Nothing in here imports the master's or the builder's packages.
"""
