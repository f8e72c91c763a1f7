"""Keys, roles and contexts as files: who this user is, who may come in, and which broker is meant.

In the user's folder (``$XDG_CONFIG_HOME/ezgraph``, mode 0700), all of it TOML:

======================  =====================================================  ==================
file                    what                                                   module
======================  =====================================================  ==================
``keys/NAME.secret``    a key pair of this user; mode 0600                     `pair`
``keys/NAME.public``    the part of it that others are given                   `pair`
``trusted.toml``        the allow-list of a broker: keys, their roles          `trusted`
``roles.toml``          roles of one's own                                     `roles_file`
``contexts.toml``       named brokers, and the key that is pinned for each     `contexts`
======================  =====================================================  ==================

What is wrong with a file raises `KeyFileError`, with the file and the field. No message, ``repr``
or JSON has a secret. Files are replaced as a whole, and changed under a lock.
"""
