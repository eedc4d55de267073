"""Local disks, buckets and other pyarrow filesystems: addresses, patience with a server that is away, whole uploads.

`pipeline.store` is the face of it for datasets; this room knows no dataset.
"""
