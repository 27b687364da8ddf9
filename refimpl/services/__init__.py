"""The services, ``io.containerd.service.v1.*``: one module each; where a request meets the database and the events."""
