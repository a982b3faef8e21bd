"""A run's folder as one HTML page. `folder` and `events` read what others wrote; `content`, `swaps`, `outgoing` and
`charts` say what is shown, as pure functions; `html` alone makes markup, and escapes every text."""
