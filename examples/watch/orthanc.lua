-- Orthanc hands every X-ray that it receives to a folder that salad watches.

local INCOMING = os.getenv("SALAD_INCOMING") or "/srv/salad/incoming"

function ReceivedInstanceFilter(dicom)  -- other images are refused
   return dicom.Modality == "CR" or dicom.Modality == "DX" or dicom.Modality == "RG"
end

function OnStoredInstance(instance, tags)
   local film = INCOMING .. "/" .. instance .. ".dcm"
   local before = io.open(film, "rb")
   if before then  -- sent once more: its SOPInstanceUID is that of a film which is there already
      before:close()
      return
   end
   local hidden = INCOMING .. "/." .. instance .. ".part"
   local file = assert(io.open(hidden, "wb"))
   file:write(RestApiGet("/instances/" .. instance .. "/file"))
   file:close()
   assert(os.rename(hidden, film))  -- whole from its first moment under this name
end
