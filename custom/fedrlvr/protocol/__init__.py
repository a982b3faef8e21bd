"""The contract between server, site and worker: what each asks and answers, stated once, checked where it enters."""
