"""The MuJoCo workcell of any robot contract."""
