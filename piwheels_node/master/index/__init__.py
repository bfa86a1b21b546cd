# SPDX-License-Identifier: BSD-3-Clause
"""The Simple API and the files, as plain ASGI: `routes` answers, with the `pages` made from the database."""
