"""Reasons for the decisions of the safety layer: label, code and sentence of each."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """A typed reason: `label` is its name in messages, `code` its number, `sentence` its text for users.

    New members are only added at the end, so that codes keep their meaning in recordings.
    """

    OK = "ok", "Commands pass unchanged."
    DISARMED = "disarmed", "No command reaches the robot until it is armed."
    DISARMING = "disarming", "The arm is brought to rest and then disarmed."
    WAITING = "waiting", "Armed and holding until enough valid chunks and joint states have come in a row."
    STATE_MISSING = "state_missing", "No joint state has arrived."
    STATE_STALE = "state_stale", "The joint states have stopped coming."
    STATE_NOT_FINITE = "state_not_finite", "A joint state holds values that are not finite."
    STATE_WIDTH = "state_width", "A joint state does not have the joints of the robot contract."
    STATE_OUT_OF_ORDER = "state_out_of_order", "A joint state is older than the one before it."
    CLOCK_JUMP = "clock_jump", "The clock of the sensors jumped."
    STATE_OUT_OF_RANGE = "state_out_of_range", "A joint state holds values that no robot can have."
    CHUNK_STALE = "chunk_stale", "The policy has not sent a valid chunk within its deadline."
    CHUNK_EXHAUSTED = "chunk_exhausted", "The chunk has run out and no other has come."
    CHUNK_WITHOUT_STATE = "chunk_without_state", "A chunk came while no fresh joint state was there to relate it to."
    CHUNK_SPECIFICATION = "chunk_specification", "A chunk follows another action specification than the robot's."
    CHUNK_SHAPE = "chunk_shape", "A chunk does not have the rows or the columns of the action specification."
    CHUNK_PERIOD = "chunk_period", "The period of a chunk is not the one of the action specification."
    CHUNK_NOT_FINITE = "chunk_not_finite", "A chunk holds values that are not finite."
    CHUNK_ROTATION = "chunk_rotation", "A chunk holds a rotation that is none."
    CHUNK_OUT_OF_RANGE = "chunk_out_of_range", "A chunk asks for a place far outside of what any arm reaches."
    CHUNK_START = "chunk_start", "The pose that a chunk starts from is not known."
    CHUNK_STAMP_ZERO = "chunk_stamp_zero", "A chunk does not say which observation it came from."
    CHUNK_STAMP_FUTURE = "chunk_stamp_future", "A chunk claims an observation from the future."
    CHUNK_TOO_OLD = "chunk_too_old", "The observation behind a chunk is too old."
    CHUNK_OUT_OF_ORDER = "chunk_out_of_order", "A chunk is older than the one before it."
    CHUNK_DUPLICATE = "chunk_duplicate", "A chunk came twice."
    CHUNK_FOREIGN = "chunk_foreign", "A chunk came from another sender than the one that is followed."
    TRUST_LOW = "trust_low", "The policy does not trust its own plan."
    INSTRUCTION_OLD = "instruction_old", "A chunk serves an instruction that has been replaced."
    INSTRUCTION_UNKNOWN = "instruction_unknown", "A chunk serves an instruction that has not arrived here."
    INSTRUCTION_NEW = "instruction_new", "A new instruction has come; the plan for the old one is dropped."
    INSTRUCTION_STOP = "instruction_stop", "An instruction asked to stop."
    OBSERVATION_AGEING = "observation_ageing", "The observation behind the motion is ageing, so the arm moves slower."
    TRUST_REDUCED = "trust_reduced", "The policy trusts its plan little, so the arm moves slower."
    WORKSPACE = "workspace", "The target lies outside the workspace and was projected onto its face."
    LINEAR_VELOCITY = "linear_velocity", "The plan asks for more speed of the tool than is allowed."
    ANGULAR_VELOCITY = "angular_velocity", "The plan asks for more turning speed of the tool than is allowed."
    SINGULARITY = "singularity", "The arm is near a singularity, so its motion is damped."
    JOINT_POSITION = "joint_position", "A joint is kept from its position limit."
    JOINT_VELOCITY = "joint_velocity", "A joint would turn faster than allowed, so the motion is scaled down."
    SELF_COLLISION = "self_collision", "The arm is kept from touching itself."
    OBSTACLE = "obstacle", "The arm is kept from touching an obstacle."
    GRIPPER_RANGE = "gripper_range", "The gripper is asked for an opening that it does not have."
    GRIPPER_CHATTER = "gripper_chatter", "The gripper is asked to open and close in quick turns."
    SOLVER = "solver", "The inverse kinematics found no solution; the arm brakes along a stop known to be safe."
    RESULT_INVALID = "result_invalid", "A computed command broke a limit; the arm brakes along a stop known to be safe."
    TRACKING = "tracking", "The measured joints are far from the commanded ones; once at rest, a new arming is needed."
    TICKS_MISSED = "ticks_missed", "The control thread was held up for too long."
    TOO_MANY_CORRECTIONS = "too_many_corrections", "The plan had to be braked too many times in a row."
    ESTOP_PRESSED = "estop_pressed", "The emergency stop is pressed."
    ESTOP_LATCHED = "estop_latched", "The emergency stop was pressed; a reset is needed."
    MOVING = "moving", "The arm is moving by itself, so it cannot be armed."
    OUTSIDE_LIMITS = "outside_limits", "The measured joints are outside of their limits by more than can be recovered."
    POLICY_SILENT = "policy_silent", "The policy's heartbeat has stopped."
    POLICY_STUCK = "policy_stuck", "One inference of the policy takes longer than its deadline."
    POLICY_FAULT = "policy_fault", "The policy says that it cannot go on."
    POLICY_WAITING = "policy_waiting", "The policy says that it has nothing fresh to work on."
    CONFIGURATION = "configuration", "A limit or a parameter is missing or makes no sense; it was refused."
    TICK_OVERRUN = "tick_overrun", "A command was not ready in time; the arm braked along a stop known to be safe."

    NOT_FOLLOWING = "not_following", "The measured joints do not follow their commands."
    FOREIGN_PUBLISHER = "foreign_publisher", "A topic that must have one publisher has several; none is followed."
    FOREIGN_COMMANDER = "foreign_commander", "Another node also publishes the robot's commands, and may move the arm."
    MESSAGE_UNREADABLE = "message_unreadable", "A message is malformed, or longer than any of its topic can be."
    UNSETTLED = "unsettled", "Too few joint states in a row have shown the arm at rest in one posture."
    STATE_FIXED_JOINT = "state_fixed_joint", "A joint that the contract takes to be fixed is measured elsewhere."
    INSTRUCTION_SILENT = "instruction_silent", "The instruction node's heartbeat has stopped: it passes no order on."
    CONTACT = "contact", "The arm met something that it cannot move; it backs off, then needs to be disarmed and armed."
    STATE_SOURCE = "state_source", "A source of joint states is silent, or reports a joint of another one."
    POSTURE_UNSEEN = (
        "posture_unseen",
        "The arm is measured away from its last command and was not seen to go there, as where its driver has frozen: "
        "move it a little by hand, or clean up the safety node and configure it again.",
    )
    POSTURE_JUMPED = (
        "posture_jumped",
        "A joint was measured to jump, faster than any joint moves: look where it is, then deactivate the safety node "
        "and activate it again, or restart the driver.",
    )

    label: str
    sentence: str
    code: int

    def __new__(cls, label: str, sentence: str) -> Reason:
        """Create the member; its code is its index in the table."""
        member = object.__new__(cls)
        member._value_ = member.label = label
        member.sentence = sentence
        member.code = len(cls.__members__)
        return member

    def explain(self, detail: str = "") -> str:
        """Return the sentence with the measured detail, at most 256 characters, as the message field holds."""
        text = f"{self.sentence} {detail}".strip()
        return text if len(text) <= 256 else text[:253] + "..."
