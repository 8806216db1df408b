def test_frames(frames):
    print(
        frames.cameras,
        frames.wanted.positions.shape,
        frames.given.tokens.shape,
        frames.given.state.shape,
        frames.vocabulary,
    )
    print(frames.wanted.positions.abs().amax(), frames.wanted.rotations.abs().amax(), frames.wanted.gripper.mean())
