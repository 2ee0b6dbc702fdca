/*
 * The lock protocol of one stripe: seats, a semaphore that has no owner, deaths anywhere, and recovery.
 *
 * What it says of the code (shm_store/table/: transaction.py, hot.py; locking/waits.py, stripes.py, recovery.py):
 *   - one statement here is one store or one read there; everything interleaves, and a process may die between any two;
 *   - `moved` stands for "the mark is not the one noted". That keeps the state finite without bounding the number of
 *     operations;
 *   - "dead" is what the code calls gone: the process died, or says LOST of the seat;
 *   - recoverers exclude each other by a lock that the kernel frees, so one that may die at any step and start again
 *     stands for all; a waiter that recovers has set its own seat to IDLE before.
 *
 * What is checked:
 *   - mutual exclusion among the living, a value of at most 1, and no release but by or for a holder (assertions; with
 *     one of -DEXCLUSION_ALONE, -DVALUE_ALONE and -DRELEASE_ALONE that one alone);
 *   - a stripe whose holder died becomes free (the formula `freed`, under weak fairness and with TIMELY, which says
 *     that a waiter's pause outlasts a recovery).
 *
 * Each -DBREAK_* takes one thing out of the protocol; `make model` requires that the model holds as it is and that
 * SPIN finds an error in every broken one.
 */

#define WORKERS 3
/*
 * How many processes die, recoverers included; without it there is no end to the deaths. The seat of a dead worker goes
 * to a new one.
 */
#ifdef DEATHS
byte deaths = DEATHS;
#define A_DEATH deaths > 0
#define ONE_LESS deaths--
#else
#define A_DEATH true
#define ONE_LESS skip
#endif

bool busy[WORKERS];		/* what the seats say: BUSY or IDLE */
bool dead[WORKERS];
bool recoverer_dies;
byte sem = 1;
bool registry;			/* the lock under which seats change owners and stripes are recovered */
bool noted;			/* a recoverer has noted the mark, */
bool moved;			/* and a hold has been completed since */

/* What no process can see: who is between the semaphore's acquire and its release. */
bool holds[WORKERS];

#define GONE(i) (dead[i] && busy[i])
#define SOMEBODY_GONE (GONE(0) || GONE(1) || GONE(2))
#define DEAD_HOLDS (dead[0] && holds[0] || dead[1] && holds[1] || dead[2] && holds[2])
#define OTHERS_HOLD(i) (!dead[0] && holds[0] && i != 0 || !dead[1] && holds[1] && i != 1 || !dead[2] && holds[2] && i != 2)

#if defined(VALUE_ALONE) || defined(RELEASE_ALONE)
#define EXCLUSION(check) skip
#else
#define EXCLUSION(check) check
#endif
#if defined(EXCLUSION_ALONE) || defined(RELEASE_ALONE)
#define VALUE(check) skip
#else
#define VALUE(check) check
#endif
#if defined(EXCLUSION_ALONE) || defined(VALUE_ALONE)
#define RELEASE(check) skip
#else
#define RELEASE(check) check
#endif

proctype Worker(byte me)
{
idle:
	{
		do
		:: busy[me] = true;
			if
			:: d_step {
				sem > 0 ->
				sem--;
				holds[me] = true;
				EXCLUSION(assert(!OTHERS_HOLD(me)))
			};
#ifndef BREAK_MARK
				moved = noted;
#endif
				d_step {
					holds[me] = false;
					sem++;
					VALUE(assert(sem <= 1))
				};
				busy[me] = false
			:: sem == 0 ->
				busy[me] = false;
#ifdef TIMELY
#ifndef BREAK_PAUSE
				!SOMEBODY_GONE
#endif
#endif
			fi
		od
	} unless { dead[me] };
	/* A seat is given to another process once it is IDLE. */
	d_step { !busy[me] && !registry -> dead[me] = false };
	goto idle
}

/* Every seat but those noted in step 1 is IDLE, read one after the other; else start over. */
inline require_nobody_else()
{
	do
	:: i == WORKERS -> i = 0; break
	:: i < WORKERS ->
		if
		:: busy[i] ->
			if
			:: gone[i]
			:: else -> goto again
			fi
		:: else
		fi;
		i++
	od
}

proctype Recoverer()
{
	byte i;
	bool gone[WORKERS];
	bool any;
again:
	{
		d_step {
			registry = false;
			noted = false;
			moved = false;
			gone[0] = false; gone[1] = false; gone[2] = false;
			any = false;
			i = 0
		};
		SOMEBODY_GONE;
		registry = true;
		/* 1. Who is gone. */
		do
		:: i == WORKERS -> i = 0; break
		:: i < WORKERS ->
			if
			:: busy[i] -> gone[i] = dead[i]; any = any || gone[i]
			:: else
			fi;
			i++
		od;
		if
		:: !any -> goto again
		:: else
		fi;
		if
		:: sem != 0 -> goto settled
		:: else
		fi;
		/* 2. The mark. */
		noted = true;
		/* 3. Nobody else is busy. */
#ifdef BREAK_VALUE_FIRST
		if
		:: sem != 0 -> goto settled
		:: else
		fi;
#endif
#ifndef BREAK_FIRST_LOOK
		require_nobody_else();
#endif
		/* 4. The value. */
#ifndef BREAK_VALUE_FIRST
		if
		:: sem != 0 -> goto settled
		:: else
		fi;
#endif
		/* 5. Still nobody else is busy, */
#ifndef BREAK_SECOND_LOOK
		require_nobody_else();
#endif
		/* 6. and the mark has not moved. */
		if
		:: moved -> goto again
		:: else
		fi;
		/* 7. Release for the one of the gone that holds. */
		d_step {
			RELEASE(assert(DEAD_HOLDS));
			if
			:: dead[0] && holds[0] -> holds[0] = false
			:: dead[1] && holds[1] -> holds[1] = false
			:: dead[2] && holds[2] -> holds[2] = false
			:: else
			fi;
			sem++;
			VALUE(assert(sem <= 1))
		};
settled:
		do
		:: i == WORKERS -> i = 0; break
		:: i < WORKERS ->
			if
			:: gone[i] -> busy[i] = false
			:: else
			fi;
			i++
		od;
		goto again
	} unless { recoverer_dies };
	d_step { recoverer_dies = false; registry = false };
	goto again
}

/* Kills at any moment whoever is alive. */
proctype Death()
{
end:	do
	:: d_step { A_DEATH && !dead[0] -> dead[0] = true; ONE_LESS }
	:: d_step { A_DEATH && !dead[1] -> dead[1] = true; ONE_LESS }
	:: d_step { A_DEATH && !dead[2] -> dead[2] = true; ONE_LESS }
	:: d_step { A_DEATH && !recoverer_dies -> recoverer_dies = true; ONE_LESS }
	od
}

init {
	atomic {
		run Worker(0);
		run Worker(1);
		run Worker(2);
		run Recoverer();
		run Death()
	}
}

#ifdef TIMELY
ltl freed { [] (DEAD_HOLDS -> <> !DEAD_HOLDS) }
#endif
