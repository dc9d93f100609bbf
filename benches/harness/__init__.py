"""What `benches/compare` and `benches/instructions` are made of.

`proc` reads what processes took, `peers` knows how each proxy is configured, `stand` starts them before one origin, `loads`
asks, `scenarios` says what is asked, `turns` measures one proxy once, `rounds` and the modules beside it make a scenario
of turns, `report` and `plots` write it down. `clients` are load generators for what no tool of Debian's speaks.
"""
