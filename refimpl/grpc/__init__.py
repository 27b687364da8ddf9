"""The gRPC fronts, ``io.containerd.grpc.v1.*``: wire to contract and back, nothing else."""
