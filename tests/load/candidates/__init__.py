"""Real candidates before a real judge: `make canaries` gives a shop under load one sick version after the other.

`kinds` are the candidates and what must become of them, `crowd` their users, `expected` how soon the same judge finds
the same faults in a simulation, `trial` one of them on a real engine, `onelog` what a kill may not change.
"""
