"""The command line; the only part of the library that imports Hydra.

Read in this order: ``main`` composes a configuration, ``report_run.run`` trains and reports, ``train.train`` fits the
stages of the method, and ``build.build_trainer`` makes the module and the Trainer of one fit.
"""
