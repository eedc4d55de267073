"""What a run will take, from a few videos timed here: sample, bench, probe, fit, predict; and afterwards compare.

sample     which videos are looked at
lengths    how long they are
bench      a temporary dataset of them
worker     a process that holds a stage open and times units
probe      each product, timed
fit        from few videos to all, with how far that may be off
predict    products over the whole manifest
cluster    hours on a cluster, and what decides them
machine    what the probes run on
forecast   all of it together
compare    what was predicted beside what was spent
"""
