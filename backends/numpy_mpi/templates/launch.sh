#!/bin/sh
#SBATCH --ntasks=@RANKS@
#SBATCH --cpus-per-task=@THREADS@
# Starts this program on the ranks that it was compiled for; arguments are handed on, for example --steps 100.
#   ./launch.sh                      mpiexec on this machine
#   HOSTFILE=hosts ./launch.sh       mpiexec on the machines of a hostfile
#   sbatch launch.sh                 a Slurm job
set -eu
ranks=@RANKS@
threads=@THREADS@  # of each rank: the cores of its device
folder=$(cd "$(dirname "${SLURM_SUBMIT_DIR:+$SLURM_SUBMIT_DIR/}$0")" 2>/dev/null && pwd || pwd)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$threads}"
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-$OMP_NUM_THREADS}" MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"
export MPIR_CVAR_ENABLE_HEAVY_YIELD=1  # MPICH: a waiting rank leaves its core to others
python=${PYTHON:-python3}
if [ "$ranks" -eq 1 ]; then
  exec "$python" -I "$folder/train.py" "$@"
elif [ -n "${SLURM_JOB_ID:-}" ]; then
  exec srun -n "$ranks" -c "$threads" "$python" -I "$folder/train.py" "$@"
else
  flags=
  case "$(mpiexec --version 2>&1)" in
    *HYDRA*)  # MPICH's own clean-up would end all ranks before the program has said which one failed, where and why.
      flags=-disable-auto-cleanup ;;
    *"Open MPI"* | *OpenRTE*)  # Ranks may outnumber cores, are not tied to one, leave theirs to others, and may be root's.
      flags="--oversubscribe --bind-to none"
      export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_osc=^ucx
      [ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ;;
  esac
  exec mpiexec $flags ${HOSTFILE:+--hostfile "$HOSTFILE"} -n "$ranks" "$python" -I "$folder/train.py" "$@"
fi
